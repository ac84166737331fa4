"""The base models of the tiny preset: what SigLIP, VQ-16, the tokenizer and DeepSeek-LLM are to the big ones.

Fitted on the shapes world in a few minutes on a CPU and kept, so that stage 1 has the starting point the paper has.
"""
