"""The parts of `kb ask`: taking questions apart, naming concepts, walking the tree, weighing evidence, checking claims."""
