"""Where alignment comes from: small networks with one cause switched off at a time, and a monitor for any run."""
