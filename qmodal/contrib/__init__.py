"""Bridges from other libraries, for programs that move to qmodal step by step."""
