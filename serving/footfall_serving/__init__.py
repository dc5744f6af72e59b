"""The NVIDIA Triton Inference Server: installation, process, versions, and the code behind each model.py."""
