"""From pictures and boxes to image features and first estimates: crops, decoding, batches."""
