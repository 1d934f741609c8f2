"""Predictors: numpy in, numpy out, in windows of constant memory."""
