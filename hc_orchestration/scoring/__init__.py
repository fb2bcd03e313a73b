"""Matching gold and predicted spans, counting, and the scores that derive from the counts.

Span frames have the columns note_id, start, end, label; offsets are half-open code points.
"""
