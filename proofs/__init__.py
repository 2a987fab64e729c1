"""The identities that flaggeo's measurements rest on, checked symbolically with sympy alone."""
