"""`yolo-distill label`: what a teacher knows about unlabelled pictures, as a data set to distil with."""
