from train.settings import *
