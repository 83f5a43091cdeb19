"""Programs that are texts: what is put before a question. No weight moves."""
