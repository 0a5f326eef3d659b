"""The student outside of torch: exported, in eight bits, run by ONNX Runtime or OpenVINO."""
