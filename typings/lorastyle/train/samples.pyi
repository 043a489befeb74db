from train.samples import *
