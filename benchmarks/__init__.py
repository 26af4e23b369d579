"""What does steering cost, beside the same work done by hand, by other libraries, and not at all?"""
