"""What answers the teacher's requests: vLLM in this process, a server, or nothing at all, behind one protocol."""
