"""The trainer's engine for responses that share a long prompt: it is computed once, and logits where responses are.

| module | what | imports |
|---|---|---|
| `layout.py` | where prompts and responses lie in one packed row | torch |
| `attention.py`, `kernels.py` | the attention of such a row, with its gradient | torch |
| `attention_check.py` | that attention tried on a device | torch |
| `packing.py` | which rows share a prompt, and which are computed together | - |
| `response_logits.py`, `shared_prompt.py` | verl's FSDP engine: logits at responses; all of it | verl, transformers |
"""
