"""Training speech: sentences, synthesis with exact phone times, articulation."""
