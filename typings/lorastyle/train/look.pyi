from train.look import *
