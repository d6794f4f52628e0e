"""Predict the handwritten digits with a model that was trained and saved from R.

python digits.py MODEL DIGITS PREDICTIONS: the model, the file of the digits, and the
file to write the predicted probabilities to, one image a row.
"""

import csv
import gzip
import sys

import keras
import numpy as np

import groupnorm  # noqa: F401  (Keras finds the layer by it)

model_file, digits_file, predictions_file = sys.argv[1:]
with gzip.open(digits_file, "rt") as file:
    rows = np.array([list(row.values()) for row in csv.DictReader(file)], float)
images = rows[:, :64].reshape(-1, 8, 8, 1) / 16
model = keras.models.load_model(model_file)
np.savetxt(predictions_file, model.predict(images, verbose=0), delimiter=",", fmt="%r")
