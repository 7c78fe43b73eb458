"""A model as the judge of what the rules of a benchmark leave open.

    SET/judges.json              the judges of the last run, each as it is pinned
    SET/judgements-ID.jsonl      the replies of one judge; ID is a digest of its record

Verdicts are read from the kept replies when a set is scored, which needs no server. Another judge, or the same one with
another prompt, revision or server version, has another ID, so its verdicts are never mixed with the earlier ones.
"""
