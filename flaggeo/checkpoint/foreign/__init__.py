"""What other libraries write: NumPy, Keras and ONNX."""
