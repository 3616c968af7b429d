"""Files of other programs: unit corpora, audio data sets, manifests. No torch here."""
