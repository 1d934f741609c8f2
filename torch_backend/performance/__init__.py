"""What makes a face alive between the words: blinks, gaze, head motion and breathing, planned for a whole recording."""
