"""Programs that are data: coded examples on which the decoder trains."""
