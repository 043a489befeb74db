from train.fitting import *
