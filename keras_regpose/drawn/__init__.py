"""Drawn people with exact keypoints: bodies, pictures, and the sequence of samples made of them."""
