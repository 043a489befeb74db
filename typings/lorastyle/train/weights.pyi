from train.weights import *
