"""One general student for many tasks: which objective of the general stage keeps how much of the teacher."""
