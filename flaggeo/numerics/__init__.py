"""Leading and full spectra with a certificate, and threads: the only room that knows LAPACK."""
