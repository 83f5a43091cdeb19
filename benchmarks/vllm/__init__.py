"""Exported adapters in vLLM: `python -m benchmarks.vllm`."""
