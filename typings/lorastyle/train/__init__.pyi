from train import *
