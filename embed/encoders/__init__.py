"""The frozen protein language models, each with its tokenizer and pooling."""
