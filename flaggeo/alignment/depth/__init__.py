"""One weight in two layers: how its leading directions continue through depth."""
