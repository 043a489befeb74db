from train.pictures import *
