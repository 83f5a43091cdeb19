"""What a binary measures, by named size; scripts and prompts that come with them."""
