"""The grounded world: questions that need several chunks of a document, which LongRLVR rewards citing."""
