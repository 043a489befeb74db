from train.checkpoint import *
