"""What the runs say: their records, statistics and tables, beside what the paper prints."""
