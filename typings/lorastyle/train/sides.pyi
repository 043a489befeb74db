from train.sides import *
