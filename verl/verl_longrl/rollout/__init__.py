"""Route each rollout to the vLLM replica that has its prompt cached."""

from pathlib import Path

ROUTER_CONFIG = Path(__file__).with_name("prompt_affinity.yaml")
"""For actor_rollout_ref.rollout.router_config_path."""
