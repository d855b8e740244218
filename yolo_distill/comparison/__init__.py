"""Arms side by side over paired seeds: trained, measured, and told in one sentence that the figures bear."""
