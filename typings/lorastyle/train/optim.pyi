from train.optim import *
