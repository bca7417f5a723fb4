"""Histories and questions to rows."""
