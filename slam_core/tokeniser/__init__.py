"""How speech becomes units: audio, encoders' features, codebooks, gates."""
