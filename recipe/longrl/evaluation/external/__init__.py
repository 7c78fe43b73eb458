"""Benchmarks that other tools ask and score: `benchmark: evalscope:mmlu_pro`, `benchmark: bfcl:memory`.

The tools' packages conflict with ours, so each is installed in an environment of its own (`bash scripts/setup.sh eval`,
`bash scripts/setup.sh bfcl`), runs as a child process, and is never imported. Their results are read from their files
and audited: a tool may take a server's error for an answer, drop rows that failed, or not say that answers were cut.
"""
