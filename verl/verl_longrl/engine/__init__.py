"""The trainer's engine for long prompts: each prompt is computed once for all its responses.

| module | contents | imports |
|---|---|---|
| `layout.py` | positions of prompts and responses in one packed row | torch |
| `attention.py`, `kernels.py` | attention of a packed row, with its gradient | torch |
| `attention_check.py` | run that attention on a device and compare it with a dense one | torch |
| `packing.py` | group rows by prompt, and groups into micro-batches | - |
| `sequence_sharding.py` | shard a packed row and its logits over sequence-parallel ranks | torch |
| `log_probs.py`, `temperature.py` | log-probabilities of labels, and logits divided by the temperature | torch, verl |
| `response_logits.py`, `shared_prompt.py` | verl's FSDP engine with less to compute | verl, transformers |
| `supported.py` | the runs for which these engines compute the same function as verl's | - |
| `register.py` | registers the engines with verl | verl |
"""
