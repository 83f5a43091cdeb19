x.lower()
