from train.dataset import *
