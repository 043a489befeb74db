from train.launch import *
