from train.batches import *
