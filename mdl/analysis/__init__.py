"""What reads only results: from points to frontiers, complexities, comparisons and reports. Nothing here needs JAX."""
