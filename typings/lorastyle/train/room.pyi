from train.room import *
