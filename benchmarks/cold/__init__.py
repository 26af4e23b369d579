"""What happens before the first steered logits?"""
