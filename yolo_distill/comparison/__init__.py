"""Arms side by side over paired seeds: trained, measured, and summed up in one sentence that the figures bear."""
