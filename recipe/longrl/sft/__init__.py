"""Cold start: supervised fine-tuning on demonstrations, before reinforcement learning or as a stage of a curriculum."""
